"""What runs beside other people's packages, in an interpreter that need not have openk2: the standard library and their package alone."""
