"""Search spaces, one package each; none but their networks needs torch."""
