"""`pack_faces`: from one container to another, resumable."""
