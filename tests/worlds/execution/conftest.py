import asyncio
import shutil

import pytest

from openk2.sandbox.pool import Pool
from tests.sandbox.conftest import why_no_box


@pytest.fixture(autouse=True)
def bubblewrap():
    if why := why_no_box():
        pytest.skip(why)
    if shutil.which("git") is None:
        pytest.skip("git is not installed: sudo apt install git")


@pytest.fixture
def in_pool():
    """Run what takes a pool."""

    def run(main):
        async def with_pool():
            async with Pool(2) as pool:
                return await main(pool)

        return asyncio.run(with_pool())

    return run
