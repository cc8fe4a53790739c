"""Bounds of hyper-parameters, as types of constructor arguments: what configuration reads is checked against them."""

from typing import Annotated

from annotated_types import Ge, Interval

StepSize = Annotated[float, Interval(gt=0, le=10)]
"""Of a gradient step or of Adam; above 10 every method here diverges."""
Weight = Annotated[float, Interval(ge=0, le=1e6)]
"""Of a loss term; 0 leaves it out."""
Decay = Annotated[float, Interval(ge=0, lt=1)]
"""Of a moving average; 0 keeps the last value."""
Share = Annotated[float, Interval(ge=0, le=1)]
Positive = Annotated[float, Interval(gt=0, le=1e6)]
Amount = Annotated[int, Ge(1)]
Count = Annotated[int, Ge(0)]
