"""All of TensorFlow: the reference agents, their layers, their files, the conversion."""
