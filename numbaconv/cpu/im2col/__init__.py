"""."""

from numbaconv.cpu.im2col.engine import make_table, plan, set_addresses, unavailable

__all__ = ["make_table", "plan", "set_addresses", "unavailable"]
