"""What a gate is: one rule of the verdict, as data.

A field reads as a sentence: condition (what makes the gate fail), effect (what it would cost in production), remedy
(what to do next).
"""

from __future__ import annotations

from dataclasses import dataclass

from rehearsal.plan.strategies import STRATEGIES

KINDS: frozenset[str] = frozenset({"local", "docker", "staging", "production"})
HOSTS: frozenset[str] = KINDS - {"local"}
# Hosts that somebody else needs too; what is thrown away afterwards needs no second pair of eyes.
OTHERS: frozenset[str] = KINDS - {"local", "docker"}


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule. `kinds` are the environments that must show evidence; `needs` is what a plan must declare for it."""

    id: str
    title: str
    condition: str
    effect: str
    remedy: str
    steps: tuple[str, ...]
    kinds: frozenset[str] = KINDS
    strategies: frozenset[str] = STRATEGIES
    needs: str = ""
