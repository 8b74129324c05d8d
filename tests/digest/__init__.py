"""Real trainings with a planted fault, and healthy ones: does the digest name the fault?"""
