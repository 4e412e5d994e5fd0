"""What a run is: the models of its YAML file, and how it is read and hashed."""
