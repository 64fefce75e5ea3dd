"""The objects of a trial attempt in a cluster, rendered without asking anybody. Pure."""
