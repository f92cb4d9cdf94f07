"""Plays a capture, a driver's vector, or what a driver's manifest lets an analyzer say, as that analyzer would."""

from interface.simulator.playing import Endpoint, Fault, PlayReport, play
from interface.simulator.source import PlayProtocol, Source, load, parse_source

__all__ = ["Endpoint", "Fault", "PlayProtocol", "PlayReport", "Source", "load", "parse_source", "play"]
