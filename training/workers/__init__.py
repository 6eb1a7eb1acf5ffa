"""Rollout workers: collectors in other processes or on other machines, whose segments are joined side by side."""
