"""What a user does with models: evaluate, sweep, plan, check and regress; one module each."""
