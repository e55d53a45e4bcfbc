from django.core.management.base import BaseCommand

from shop.models import Upload


class Command(BaseCommand):
    def handle(self, **options):
        self.stdout.write(f"mails about {Upload.objects.count()} uploads")
