"""Serves every RAND measure, SL1-WST-01 onwards: the framework itself as data, for look-up only.

The facts come from the RAND Corporation's report RRA2849-1, "Securing AI Model Weights: Preventing Theft and Misuse of
Frontier Models" (Sella Nevo, Dan Lahav, Ajay Karpur, Yogev Bar-On, Henry Alexander Bradley, Jeff Alstott; 2024). RAND
holds the copyright of the report. The wording here is ours, and so are the links from measures to vectors, to
SP 800-53 and to regulation: the report gives none. RAND calls its levels an aid to calibration, not a standard.

Start at :func:`strongroom.framework.catalogue.load`.
"""
