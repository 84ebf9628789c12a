def checks(*a): pass
