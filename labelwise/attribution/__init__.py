"""Where a model looks: heat maps of its answers, checks of these, and pages to look at them."""
