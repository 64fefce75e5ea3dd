"""Users, projects and roles, sign-in links, sessions and API tokens."""
