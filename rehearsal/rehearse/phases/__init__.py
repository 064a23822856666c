"""The phases of a rehearsal, one file a phase: its functions and its `PHASE`. `order` lists them."""
