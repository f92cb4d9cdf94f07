"""The daemon's links, intake, journal and queue in virtual time: every fault from one seed (docs/simulation.md)."""
