"""Estimators of scikit-learn, fitted to a growing share of the examples. Prediction needs NumPy alone."""
