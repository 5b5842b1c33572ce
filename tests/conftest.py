"""What holds for every test."""

from hypothesis import settings

# The machine may be busy, and what is compiled is compiled at its first call.
settings.register_profile("openk2", deadline=None)
settings.load_profile("openk2")
