"""Named bars: the error rates that published requirements ask of a face verification system.

A bar has two numbers: the false match rate (FMR, FAR) at which the system operates, and the false
non-match rate (FNMR, 1 - TAR) that it may have there. `BARS` is the only list of them. This file
needs neither NumPy nor Keras.

A bar is a necessary condition, not a certificate: the requirements also ask for tests with the
system's own camera, for the detection of presentation attacks, and for a limit on attempts.
"""

import dataclasses

# A rate is judged if so many accepted impostor pairs decide it: with fewer it is uncertain by a
# third and more (the "rule of 30" of ISO/IEC 19795-1).
DECIDING = 30


@dataclasses.dataclass(frozen=True)
class Bar:
    """One requirement.

    Attributes:
        name: who asks it.
        fmr: false match rate at which the system operates, at most.
        fnmr: false non-match rate there; it must be below.
        source: document, section and what it says.
    """

    name: str
    fmr: float
    fnmr: float
    source: str

    @property
    def title(self) -> str:
        """The name with the two rates."""
        return f"{self.name}: FNMR < {self.fnmr:.0%} at FMR {self.fmr:.0e}".replace("e-0", "e-")

    @property
    def fewest_impostors(self) -> int:
        """Number of impostor pairs of which 30 are accepted at the FMR."""
        return round(DECIDING / self.fmr)

    def judge(
        self, fnmr: float | None, interval: tuple[float, float] | None, impostor_pairs: int
    ) -> str:
        """Compares a measured FNMR with the bar.

        Args:
            fnmr: at the smallest threshold whose FMR is at most that of the bar; None if it is not
                known.
            interval: lowest and highest value of its 95 % interval; None if it was not computed.
            impostor_pairs: the pairs that give the FMR.

        Returns:
            "met" if the interval is below the bar, "missed" if it is above, "not decided" if the
            bar is within the interval or without an interval, each with the figures; "not supported
            by N impostor pairs" if fewer than 30 of them are accepted; "not measured at this FMR".

        Example:
            >>> nist = BARS[0]
            >>> nist.judge(0.021, (0.018, 0.024), impostor_pairs=4_000_000)
            'met: FNMR 2.10% (1.80% to 2.40%)'
            >>> nist.judge(0.051, (0.046, 0.056), impostor_pairs=4_000_000)
            'not decided: FNMR 5.10% (4.60% to 5.60%)'
            >>> nist.judge(0.0, (0.0, 0.001), impostor_pairs=3_000)
            'not supported by 3,000 impostor pairs'
        """
        if impostor_pairs < self.fewest_impostors:
            return f"not supported by {impostor_pairs:,} impostor pairs"
        if fnmr is None:
            return "not measured at this FMR"
        if interval is None:
            return f"not decided: FNMR {fnmr:.2%}, without an interval"
        low, high = interval
        verdict = "met" if high < self.fnmr else "missed" if low >= self.fnmr else "not decided"
        return f"{verdict}: FNMR {fnmr:.2%} ({low:.2%} to {high:.2%})"


BARS = (
    Bar(
        "NIST SP 800-63B-4",
        1e-4,
        0.05,
        "NIST SP 800-63B-4 (2025), section 3.2.3, Use of Biometrics: the system shall operate with "
        "an FMR of one in 10000 or better and should have an FNMR of less than 5 %",
    ),
    Bar(
        "Windows Hello",
        1e-5,
        0.05,
        "Microsoft, Windows Hello biometrics in the enterprise, facial recognition sensors: FAR < "
        "0.001 %, FRR < 5 % without and < 10 % with anti-spoofing",
    ),
)
