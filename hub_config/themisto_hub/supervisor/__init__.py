"""Everything on one machine: which processes there are, who they run as, and what keeps them up."""
