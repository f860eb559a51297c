"""Time limits for what must end within seconds: probes, and notes that a run can do without."""

from __future__ import annotations

from infra.settings import Settings

# Container engines wait for some seconds, and then kill the probe: it ends before, unless a setting is shorter.
_LIMITS_SECONDS = {"connect_timeout": 2.0, "redis_timeout": 2.0, "statement_timeout": 3.0, "lock_timeout": 1.0}


def short_timeouts(config: Settings) -> Settings:
    """The settings with timeouts for a probe."""
    return config.model_copy(update={name: min(getattr(config, name), most) for name, most in _LIMITS_SECONDS.items()})
