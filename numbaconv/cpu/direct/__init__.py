"""."""

from numbaconv.cpu.direct.engine import make_table, plan, set_addresses, unavailable

__all__ = ["make_table", "plan", "set_addresses", "unavailable"]
