"""The answer team: a question goes in, a cited and checked answer comes out."""
