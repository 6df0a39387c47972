"""What several test folders share: a real daemon, sample images, peers."""
