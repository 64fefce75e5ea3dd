"""The labeling service: queue, answers, rounds, export."""
