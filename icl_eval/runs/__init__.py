"""What a user does with runs: evaluate, sweep, rescore, compare, regress, plan and check; one module each."""
