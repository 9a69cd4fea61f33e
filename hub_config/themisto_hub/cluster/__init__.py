"""The cluster: a release as Kubernetes objects, where one machine ends. Pure functions; nothing here asks a cluster."""
