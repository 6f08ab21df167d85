"""Checks of a finished run: may its figures be published?"""
