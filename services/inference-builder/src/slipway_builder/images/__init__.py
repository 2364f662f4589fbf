"""Images of endpoints: the base image, the code and the files of a version, in a registry, named by digest."""
