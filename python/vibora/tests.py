"""The import path that the first Vibora had for what `app.test_client()` now is in any test framework."""

from unittest import IsolatedAsyncioTestCase

__all__ = ["TestSuite"]


class TestSuite(IsolatedAsyncioTestCase):
    """A `unittest` case whose tests may be `async def`.

    ```python
    class HomeTests(TestSuite):
        async def test_home(self) -> None:
            async with app.test_client() as client:
                response = await client.get("/")
            self.assertEqual(response.json(), {"hello": "world"})
    ```
    """
