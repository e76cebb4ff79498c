"""From what a generative model wrote to a result: spotting, fields, loops, language, confidence."""
