"""The verbs of `sluice`, one module each; `app` finds them, `context` and `output` are what they share."""
