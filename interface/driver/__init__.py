"""Analyzers as data: the manifest of a driver folder and the engines that read messages by it. Pure."""
