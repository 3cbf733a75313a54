"""What every command of ``nas`` has beside its own flags: defaults, examples, completion, one line for every fault. No torch, no ray."""
