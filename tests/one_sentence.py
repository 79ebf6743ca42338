"""What every error of the command line looks like."""


def assert_one_sentence(result, *parts, expected_code=1):
    """The exit code and, apart from progress, one line on standard error that holds the parts."""
    code, _, error = result
    assert code == expected_code
    (line,) = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert error.rstrip().splitlines()[-1] == line
    assert "Traceback" not in error
    for part in parts:
        assert str(part) in line
