"""People are notified of drift, failures and recoveries, wherever they want to be told.

notices   which events are news for whom, in words
receiver  one receiver: a thread, a queue that is bounded, so many an hour
senders   webhook, Slack, e-mail
notifier  all receivers of a project, as kvmstate.yaml has them by now
"""
