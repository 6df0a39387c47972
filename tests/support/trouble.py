"""A call that fails for a while."""


class Trouble:
    """Every call of what it stands for fails, `times` times."""

    def __init__(self, real, error, times, *, after=False):
        self.real, self.error, self.left, self.after = real, error, times, after

    async def __call__(self, *args, **kwargs):
        if self.left <= 0:
            return await self.real(*args, **kwargs)
        self.left -= 1
        if self.after:
            await self.real(*args, **kwargs)
        raise self.error
