"""What pytest makes of each test module before it runs it, made once: `python -m tests.rewritten`.

Otherwise each worker of a run that finds none makes its own, and is busy with that for eight seconds. It is made with
pytest's own means, which it keeps to itself; where they are others some day, the workers make theirs as before.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from _pytest.assertion import rewrite

TESTS = Path(__file__).parent


def made(path: Path) -> bool:
    """Whether it had to be made."""
    pyc = rewrite.get_cache_dir(path) / f"{path.stem}{rewrite.PYC_TAIL}"
    if rewrite._read_pyc(path, pyc) is not None:
        return False
    stat, code = rewrite._rewrite_test(path, None)  # type: ignore[arg-type]  # then an option that nobody sets is off
    pyc.parent.mkdir(exist_ok=True)
    rewrite._write_pyc(None, code, stat, pyc)  # type: ignore[arg-type]  # for tracing only
    return True


if __name__ == "__main__":
    of_tests = sorted({*TESTS.rglob("test_*.py"), *TESTS.rglob("conftest.py")})
    with ProcessPoolExecutor() as pool:
        print(sum(pool.map(made, of_tests, chunksize=16)), "made")
