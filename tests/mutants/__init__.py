"""Every gate has a mutant: the defect is put in for real, and the verdict must say so."""
