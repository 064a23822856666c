"""An app server without a pooler: one that we had set up is stopped, after the app has left it."""

from fleet import pooler

pooler.out_of_use(name="Take the pooler out of use")
