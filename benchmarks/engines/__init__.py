"""What small_nets.py compares: the nets, the engines, the process an engine runs in."""
