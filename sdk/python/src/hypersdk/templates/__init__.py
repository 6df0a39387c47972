"""Templates: the distribution that `hyperctl plugin new` writes.

    files/common/    what a plugin of every kind has
    files/<kind>/    the rest, where it may replace a file of common
    scaffold         fills them in

A template is a text file named `….tmpl`, filled in by string.Template: `$name` and `${name}` are replaced, `$$` is a
dollar sign; nothing in a template is executed. In paths `__package__` stands for the import package and a leading
`dot_` for a dot. Standard library only.
"""

from hypersdk.templates.scaffold import KINDS, Scaffold, plan

__all__ = ["KINDS", "Scaffold", "plan"]
