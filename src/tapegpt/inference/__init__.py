"""Using parameters without changing them: generation under constraints, scores, explanations."""
