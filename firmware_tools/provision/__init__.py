"""From a board in any state to an enrolled agent, over SSH or its serial console."""
