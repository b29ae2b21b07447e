"""What the rows say: pairs, errors, training, studies, and the sentences that the numbers allow."""
