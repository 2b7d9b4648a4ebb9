"""Where manifests come from. Nothing here knows what they say: whoever needs manifests may use it.

git         a branch or tag of a repository: a revision is in force when all of it is here and verified
remote      where the repository is, and how one logs in
repository  git's own commands on the copy here
signature   who signed a commit
revision    what the manifests in force are
watch       files, as they change
"""
