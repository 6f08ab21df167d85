"""From a board in any state to an enrolled agent, over its serial console."""
