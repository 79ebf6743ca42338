"""`pack_faces`: copies one container of faces into another, resumable."""
