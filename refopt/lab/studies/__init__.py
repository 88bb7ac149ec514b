"""The studies of the laboratory, one a file; see `refopt.lab.study`."""
