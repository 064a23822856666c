"""Who may say yes: GO, signature, review, and what each verb demands in production."""
