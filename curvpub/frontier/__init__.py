"""The frontier: utility against exposure, every publisher swept over its strength.

All play the whole-publisher game on the same complementary shadows, with the same attacker.
"""
