"""What input can cause, explained, and what the loss of another process causes."""

from functools import partial


class InputError(ValueError):
    """Bad input, explained.

    Args:
        given: what was found, with the file or the option it came from.
        wanted: what would have been right.
        do: the next thing for the user to try.
    """

    def __init__(self, given: str, wanted: str, do: str):
        super().__init__(f"{given}\n  wanted: {wanted}\n  to do:  {do}")
        self.given, self.wanted, self.do = given, wanted, do

    def __reduce__(self):
        return type(self), (self.given, self.wanted, self.do)


class NotAtHand(InputError):
    """What a model needs is not at hand on this machine: a library, a module of the user's own, or consent to run it.

    That says nothing of the model itself, so that nobody takes it for broken.
    """


class NoAnswer(InputError):
    """A model behind an address gave no answer that can be used.

    Args:
        teacher: its id.
        reason: what happened.
        do: the next thing for the user to try.
        comes_back: whether asking again later may help.
        everywhere: whether all processes of the run know of it, not this one alone.
    """

    def __init__(self, teacher: str, reason: str, do: str, *, comes_back: bool = True, everywhere: bool = False):
        super().__init__(f"model {teacher}: {reason}", "its answers", do)
        self.teacher, self.reason, self.comes_back, self.everywhere = teacher, reason, comes_back, everywhere

    def __reduce__(self):
        known = partial(NoAnswer, comes_back=self.comes_back, everywhere=self.everywhere)
        return known, (self.teacher, self.reason, self.do)


class PartialFailure(Exception):
    """Some of many inputs could not be used, which the message names; the others were."""


class NotFinite(ArithmeticError):
    """A number that is NaN or infinite where it would spread: in images, answers, losses or weights."""


class LostRank(RuntimeError):
    """Another process of the run is gone, or does not answer; this one cannot go on."""
