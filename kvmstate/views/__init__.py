"""What people and programs are shown. Views draw; they decide nothing."""
